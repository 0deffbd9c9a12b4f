"""From a trained model and an image to classes: the network's view, tiles, the predictor, pictures."""
