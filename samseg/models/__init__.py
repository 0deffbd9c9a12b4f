"""Networks: an encoder and a decoder, built from a configuration."""
