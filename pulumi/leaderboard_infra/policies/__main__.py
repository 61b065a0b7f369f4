"""The CrossGuard pack: ``pulumi up --policy-pack pulumi/leaderboard_infra/policies``."""

from pulumi_policy import (
    EnforcementLevel,
    Policy,
    PolicyPack,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
)
from rules import RULES, Rule, data_is_protected


def _policy(name: str, rule: Rule) -> ResourceValidationPolicy:
    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        for problem in rule(args.resource_type, args.props):
            report(problem, None)

    return ResourceValidationPolicy(name=name, description=(rule.__doc__ or "").strip(), validate=validate)


def _protected(args: ResourceValidationArgs, report: ReportViolation) -> None:
    for problem in data_is_protected(args.resource_type, args.props, protect=args.opts.protect):
        report(problem, None)


_policies: list[Policy] = [_policy(name, rule) for name, rule in RULES.items()]
_policies.append(
    ResourceValidationPolicy(
        name="data-is-protected",
        description=(data_is_protected.__doc__ or "").strip(),
        validate=_protected,
        enforcement_level=EnforcementLevel.ADVISORY,
    )
)
PolicyPack(name="leaderboard", enforcement_level=EnforcementLevel.MANDATORY, policies=_policies)
