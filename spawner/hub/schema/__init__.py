"""Wire shapes: declares every request and answer of the workbench's REST API, and every event of its stream.

Answers are typed dictionaries: the type checker compares the views with them, and they cost nothing at run time.
Requests are pydantic models: ``base.read`` turns a body into one, or into one sentence.
``hub.handlers.openapi_document`` derives ``openapi.json`` from both.

A name has one meaning in all shapes: ``gpus`` is a number, and ``devices`` is a list of GPUs or MIG instances.
"""
