"""Rows on their way into a model: read off an example, checked, and put in the form that the model takes."""
