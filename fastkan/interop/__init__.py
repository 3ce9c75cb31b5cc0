"""Other libraries: their models with KAN layers in them."""
