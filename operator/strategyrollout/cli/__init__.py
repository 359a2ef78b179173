"""`kubectl strategyrollout`: what people on call type. It reads and asks; only `override` moves traffic by itself.

Each command is imported when it is used, because whoever types one at 3 a.m. should not wait for the others.
"""
