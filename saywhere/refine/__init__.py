"""Caption refinement by a language model: prompts, endpoint, guards, cache, files.

``plan`` makes jobs of a dataset, ``run`` asks an OpenAI-compatible endpoint and writes one line a
job, ``training`` brings the lines into a dataset. Only ``endpoint`` needs the ``openai`` client.
"""
