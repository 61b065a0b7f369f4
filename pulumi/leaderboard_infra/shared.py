"""What the regions share: their names in DNS, the cache before public boards, the secret of key hashing, where the
primary Postgres is, and the dashboards of a Grafana that shows them all.

A region asks for these by `globalStack` (see global_stack.py). So this stack goes up before them; it asks nothing of
them but their public addresses, which are typed into its configuration once they are known.
"""

import json
from pathlib import Path

import pulumi
import pulumi_random as random

from leaderboard_infra.component import Component
from leaderboard_infra.global_stack import HANDED_OVER
from leaderboard_infra.settings import Settings

_DASHBOARDS = Path(__file__).parents[2] / "grafana" / "dashboards"
_AUTOMATIC = 1  # Cloudflare's word for a TTL that it chooses


class Shared(Component):
    """`exports` are the stack's outputs, those of `HANDED_OVER`."""

    def __init__(self, settings: Settings) -> None:
        super().__init__("global:Shared", settings)
        if settings.cloudflare_zone_id:
            self._dns()
        if settings.grafana_url:
            self._dashboards()
        url = settings.primary_database_url
        self.exports: dict[str, pulumi.Input[object]] = {
            "hosts": {region: self._host(region) for region in sorted(settings.addresses)},
            "pepper": settings.pepper.output if settings.pepper is not None else self._random_pepper(),
            "primaryRegion": settings.primary_region,
            "primaryDatabaseUrl": "" if url is None else url.output,
        }
        assert self.exports.keys() == HANDED_OVER.keys()
        self.register_outputs(self.exports)

    def _random_pepper(self) -> pulumi.Output[str]:
        provider = random.Provider(self.name("random"), opts=self.inside)
        opts = pulumi.ResourceOptions.merge(self.kept, pulumi.ResourceOptions(provider=provider))
        return pulumi.Output.secret(
            random.RandomPassword(self.name("pepper"), length=64, special=False, opts=opts).result
        )

    def _host(self, region: str) -> str:
        return f"{region}.{self.settings.domain}"

    def _dns(self) -> None:
        """A record for each region, and one rule for the CDN; the token is CLOUDFLARE_API_TOKEN of the environment."""
        import pulumi_cloudflare as cloudflare  # a large package: only a stack with DNS imports it

        settings = self.settings
        provider = cloudflare.Provider(self.name("cloudflare"), opts=self.inside)
        mine = pulumi.ResourceOptions(parent=self, provider=provider)
        for region, address in sorted(settings.addresses.items()):
            cloudflare.DnsRecord(
                self.name(f"record-{region}"),
                zone_id=settings.cloudflare_zone_id,
                name=self._host(region),
                type="A" if address.replace(".", "").isdecimal() else "CNAME",
                content=address,
                ttl=_AUTOMATIC,
                proxied=True,
                opts=mine,
            )
        # What needs a key is private by its own headers; only this route may be kept by a shared cache, and it says
        # itself for how long.
        cloudflare.Ruleset(
            self.name("cache"),
            zone_id=settings.cloudflare_zone_id,
            kind="zone",
            phase="http_request_cache_settings",
            name="leaderboard-global-public-boards",
            description="Public leaderboards, for as long as the API says",
            rules=[
                {
                    "ref": "public_boards",
                    "description": "Public leaderboards, for as long as the API says",
                    "expression": (
                        f'ends_with(http.host, ".{settings.domain}") and starts_with(http.request.uri.path, '
                        '"/v1/public/") and http.request.method eq "GET"'
                    ),
                    "action": "set_cache_settings",
                    "action_parameters": {
                        "cache": True,
                        "edge_ttl": {"mode": "respect_origin"},
                        "browser_ttl": {"mode": "respect_origin"},
                    },
                    "enabled": True,
                }
            ],
            opts=mine,
        )

    def _dashboards(self) -> None:
        import pulumiverse_grafana as grafana

        settings = self.settings
        assert settings.grafana_auth is not None
        provider = grafana.Provider(
            self.name("grafana"), url=settings.grafana_url, auth=settings.grafana_auth.output, opts=self.inside
        )
        mine = pulumi.ResourceOptions(parent=self, provider=provider)
        folder = grafana.oss.Folder(
            self.name("folder"), uid="leaderboard-global", title="Leaderboard platform", opts=mine
        )
        for path in sorted(_DASHBOARDS.glob("*.json")):
            grafana.oss.Dashboard(
                self.name(f"dashboard-{path.stem}"),
                folder=folder.uid,
                config_json=json.dumps(json.loads(path.read_text()), sort_keys=True),
                overwrite=True,
                opts=mine,
            )
