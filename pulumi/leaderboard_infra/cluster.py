"""The cluster, and the one explicit Kubernetes provider through which everything in it is made.

`existing` makes nothing but the provider. `eks` and `doks` make a cluster with one node pool. Neither makes a network:
a VPC belongs to who routes it. Credentials come from the environment (AWS_*, DIGITALOCEAN_TOKEN), never from a stack.
"""

import json
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from leaderboard_infra.component import Component
from leaderboard_infra.settings import Settings


class Cluster(Component):
    """`kubernetes` is the provider, `storage_class` the class of volumes, None for the cluster's default."""

    def __init__(self, settings: Settings, *, opts: pulumi.ResourceOptions) -> None:
        super().__init__("region:Cluster", settings, opts=opts)
        self.storage_class: pulumi.Input[str] | None = settings.storage_class or None
        match settings.cluster_mode:
            case "eks":
                self.kubernetes = self._connect(kubeconfig=self._eks())
                if self.storage_class is None:
                    self.storage_class = self._encrypted_storage_class()
            case "doks":
                self.kubernetes = self._connect(kubeconfig=self._doks())
            case _:
                self.kubernetes = self._connect(kubeconfig=settings.kubeconfig or None, context=settings.kube_context)
        self.register_outputs({"storageClass": self.storage_class})

    def _connect(self, **where: pulumi.Input[str | None]) -> kubernetes.Provider:
        return kubernetes.Provider(
            self.name("kubernetes"),
            opts=self.inside,
            **where,
        )

    def _eks(self) -> pulumi.Output[str]:
        import pulumi_aws as aws  # a large package: only the cloud that is used is imported

        settings, cluster_name = self.settings, self.settings.namespace
        provider = aws.Provider(self.name("aws"), region=settings.cloud_region, opts=self.inside)
        mine = pulumi.ResourceOptions(parent=self, provider=provider)
        tags = {"Name": cluster_name, "leaderboard:region": settings.region}

        def role(what: str, trusted: str, *policies: str, actions: str = "sts:AssumeRole") -> pulumi.Output[str]:
            """Return the role's ARN, known once its policies are attached: without them nodes do not join."""
            made = aws.iam.Role(
                self.name(f"{what}-role"),
                name=f"{cluster_name}-{what}",
                assume_role_policy=_trust(trusted, *actions.split()),
                tags=tags,
                opts=mine,
            )
            attached = [
                aws.iam.RolePolicyAttachment(
                    self.name(f"{what}-{policy.rpartition('/')[2]}"),
                    role=made.name,
                    policy_arn=f"arn:aws:iam::aws:policy/{policy}",
                    opts=mine,
                )
                for policy in policies
            ]
            known = pulumi.Output.all(made.arn, *[each.id for each in attached])
            return known.apply(lambda found: str(found[0]))

        cluster = aws.eks.Cluster(
            self.name("eks"),
            name=cluster_name,
            role_arn=role("cluster", "eks.amazonaws.com", "AmazonEKSClusterPolicy"),
            version=settings.kubernetes_version,
            access_config={
                "authentication_mode": "API",
                "bootstrap_cluster_creator_admin_permissions": True,
            },
            vpc_config={
                "subnet_ids": settings.eks_subnet_ids,
                "endpoint_private_access": True,
                "endpoint_public_access": False,
            },
            enabled_cluster_log_types=["audit", "authenticator"],
            deletion_protection=settings.protect_data,
            tags=tags,
            opts=pulumi.ResourceOptions.merge(mine, pulumi.ResourceOptions(protect=settings.protect_data)),
        )
        nodes = aws.eks.NodeGroup(
            self.name("nodes"),
            cluster_name=cluster.name,
            node_group_name=f"{cluster_name}-nodes",
            node_role_arn=role(
                "node",
                "ec2.amazonaws.com",
                "AmazonEKSWorkerNodePolicy",
                "AmazonEKS_CNI_Policy",
                "AmazonEC2ContainerRegistryReadOnly",
            ),
            subnet_ids=settings.eks_subnet_ids,
            instance_types=[settings.node_type],
            scaling_config={
                "desired_size": settings.node_min,
                "min_size": settings.node_min,
                "max_size": settings.node_max,
            },
            update_config={"max_unavailable": 1},
            tags=tags,
            # How many nodes there are now is the autoscaler's business.
            opts=pulumi.ResourceOptions.merge(
                mine, pulumi.ResourceOptions(ignore_changes=["scalingConfig.desiredSize"])
            ),
        )
        volumes = role(
            "volumes", "pods.eks.amazonaws.com", "service-role/AmazonEBSCSIDriverPolicy",
            actions="sts:AssumeRole sts:TagSession",
        )  # fmt: skip
        for addon, more in (
            # EKS enforces no NetworkPolicy unless its network plugin is told to.
            ("vpc-cni", {"configuration_values": json.dumps({"enableNetworkPolicy": "true"})}),
            ("eks-pod-identity-agent", {}),
            ("metrics-server", {}),  # the API's autoscaling asks it
            (
                "aws-ebs-csi-driver",
                {"pod_identity_associations": [{"service_account": "ebs-csi-controller-sa", "role_arn": volumes}]},
            ),
        ):
            extra: dict[str, Any] = more
            aws.eks.Addon(
                self.name(addon),
                cluster_name=nodes.cluster_name,
                addon_name=addon,
                resolve_conflicts_on_create="OVERWRITE",  # of the network plugin a new cluster has one already
                resolve_conflicts_on_update="PRESERVE",
                tags=tags,
                opts=mine,
                **extra,
            )
        # Through the node group's name: without nodes, nothing in the cluster would become ready.
        return pulumi.Output.all(
            endpoint=cluster.endpoint,
            authority=cluster.certificate_authority["data"],
            name=nodes.cluster_name,
        ).apply(lambda known: _eks_kubeconfig(**known, region=settings.cloud_region))

    def _encrypted_storage_class(self) -> pulumi.Output[str]:
        made = kubernetes.storage.v1.StorageClass(
            self.name("storage"),
            metadata={"name": self.settings.namespace},
            provisioner="ebs.csi.aws.com",
            parameters={"type": "gp3", "encrypted": "true"},
            reclaim_policy="Retain",
            # A volume is made in the zone where its pod will be.
            volume_binding_mode="WaitForFirstConsumer",
            allow_volume_expansion=True,
            opts=pulumi.ResourceOptions(parent=self, provider=self.kubernetes),
        )
        return pulumi.Output.from_input(made.metadata["name"])

    def _doks(self) -> pulumi.Output[str]:
        import pulumi_digitalocean as digitalocean

        settings = self.settings
        provider = digitalocean.Provider(self.name("digitalocean"), opts=self.inside)
        cluster = digitalocean.KubernetesCluster(
            self.name("doks"),
            name=settings.namespace,
            region=settings.cloud_region,
            version=settings.kubernetes_version,
            ha=True,
            control_plane_firewall={"enabled": True, "allowed_addresses": list(settings.api_allowed_cidrs)},
            node_pool={
                "name": f"{settings.namespace}-nodes",
                "size": settings.node_type,
                "auto_scale": True,
                "min_nodes": settings.node_min,
                "max_nodes": settings.node_max,
            },
            # With the cluster, never: volumes and load balancers would go too.
            destroy_all_associated_resources=False,
            tags=[settings.namespace],
            opts=pulumi.ResourceOptions(parent=self, provider=provider, protect=settings.protect_data),
        )
        return pulumi.Output.secret(cluster.kube_configs[0]["raw_config"])


def _trust(service: str, *actions: str) -> str:
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": list(actions)}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def _eks_kubeconfig(*, endpoint: str, authority: str, name: str, region: str) -> str:
    """A kubeconfig that asks the `aws` command for a token at each use: it holds no secret."""
    command = ["eks", "get-token", "--cluster-name", name, "--region", region, "--output", "json"]
    ask = {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "aws", "args": command}
    ask["interactiveMode"] = "Never"
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": {"server": endpoint, "certificate-authority-data": authority}}],
            "users": [{"name": name, "user": {"exec": ask}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        }
    )
