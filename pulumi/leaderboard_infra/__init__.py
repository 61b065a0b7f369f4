"""What `pulumi up` makes: one Cell per region, and what the regions share.

One module per part, see pulumi/README.md. Nothing here talks to a cloud when it is imported, and no resource is made
inside an `apply`: what a stack holds can be read off its configuration.
"""
