"""The handlers, one module per part of the API. ``scopes`` of a class maps its methods to the least scope."""
