"""Reports: a run, or several side by side, as one HTML file that asks nothing of the net."""
