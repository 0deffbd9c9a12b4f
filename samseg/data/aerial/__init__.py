"""The parts that generated aerial scenes are made of; `samseg.sample.write` puts them together."""
