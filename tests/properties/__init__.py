"""Rules that hold in every world we can generate: crashes, stale readers, silent routers, anything people may ask."""
