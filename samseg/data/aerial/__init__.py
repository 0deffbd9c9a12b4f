"""The parts that generated aerial scenes are made of; `samseg.data.sample` puts them together."""
