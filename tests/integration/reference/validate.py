#!/usr/bin/python3
"""Validates TOML documents against the schema.

Usage: validate.py SCHEMA <DOCUMENTS; both are JSON, DOCUMENTS a list of texts. Prints a list with, for each text, what is
wrong with it: a list of strings.
"""
import json
import sys
import tomllib

import jsonschema


def problems(validator, text):
    """What is wrong with one document."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return [f"no TOML: {error}"]
    errors = validator.iter_errors(document)
    return sorted(f"{'/'.join(map(str, error.path))}: {error.message}" for error in errors)


def main():
    """Reads, validates and prints."""
    with open(sys.argv[1], encoding="utf-8") as file:
        schema = json.load(file)
    jsonschema.Draft7Validator.check_schema(schema)
    validator = jsonschema.Draft7Validator(schema)
    json.dump([problems(validator, text) for text in json.load(sys.stdin)], sys.stdout)


main()
