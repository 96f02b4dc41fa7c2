"""Two chained products on one array, as TileFlow's RTL runs them."""
