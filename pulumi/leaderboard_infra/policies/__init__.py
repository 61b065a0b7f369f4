"""What no stack may do: plain functions in rules.py, and a CrossGuard pack of them (`pulumi up --policy-pack`)."""
