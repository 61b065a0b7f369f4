"""The Cell: everything of one region, and nothing of another. pulumi/README.md has a picture.

Its components get the cluster's provider and the random one here, once; their children only say who their parent is.
"""

import pulumi
import pulumi_kubernetes as kubernetes
import pulumi_random as random

from leaderboard_infra.cluster import Cluster
from leaderboard_infra.component import Component, namespace_spec
from leaderboard_infra.global_stack import GlobalStack
from leaderboard_infra.observability import Observability
from leaderboard_infra.operators import Operators
from leaderboard_infra.platform_chart import Platform
from leaderboard_infra.postgres import Postgres
from leaderboard_infra.redis import Redis
from leaderboard_infra.settings import Settings


class Cell(Component):
    """Cluster, data, platform and observability of one region; `exports` are the stack's outputs."""

    def __init__(self, settings: Settings) -> None:
        super().__init__("region:Cell", settings)
        shared = self._global_stack()
        cluster = Cluster(settings, opts=self.inside)
        providers = [cluster.kubernetes, random.Provider(self.name("random"), opts=self.inside)]
        inside = pulumi.ResourceOptions(parent=self, providers=providers)

        namespace = kubernetes.core.v1.Namespace(
            self.name("namespace"),
            metadata=namespace_spec(settings.namespace),
            # With a namespace all in it goes, volumes too.
            opts=pulumi.ResourceOptions.merge(self.kept, pulumi.ResourceOptions(provider=cluster.kubernetes)),
        ).metadata["name"]
        operators = Operators(settings, opts=inside) if settings.needs_operators else None
        storage = cluster.storage_class
        redis = Redis(settings, namespace=namespace, storage_class=storage, operators=operators, opts=inside)
        postgres = Postgres(
            settings, namespace=namespace, storage_class=storage, operators=operators, shared=shared, opts=inside
        )
        observability = Observability(settings, storage_class=storage, opts=inside)
        platform = Platform(
            settings,
            namespace=namespace,
            redis=redis,
            postgres=postgres,
            otlp_endpoint=observability.otlp_endpoint,
            shared=shared,
            opts=inside,
        )
        self.exports: dict[str, pulumi.Input[object]] = {
            "region": settings.region,
            "namespace": namespace,
            "url": platform.url,
            "otlpEndpoint": observability.otlp_endpoint,
            "databaseReadHost": postgres.read_host or "",
        }
        if shared is not None and settings.is_replica:
            self.exports["primaryRegion"] = shared.expect_primary(settings.postgres_primary_region)
        self.register_outputs(self.exports)

    def _global_stack(self) -> GlobalStack | None:
        settings = self.settings
        if not settings.global_stack:
            return None
        return GlobalStack(self.name("global"), stack=settings.global_stack, region=settings.region, opts=self.inside)
