"""End to end: real orders through real routers to real strategies, while the real operator moves traffic."""
