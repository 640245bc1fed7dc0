"""Schemas of custom resources: one version of a CRD, without its prose, and judged as strictly as `kubectl apply` does.

    python -m tests.support.crds CRD.yaml VERSION > tests/data/crds/KIND-VERSION.json

wrote the files in tests/data/crds; its README.md says from what.
"""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import jsonschema
import yaml

DATA = Path(__file__).resolve().parent.parent / "data" / "crds"
Schema = dict[str, Any]


def trimmed(crd: Schema, version: str) -> Schema:
    """The version's schema without descriptions and status; a Pod template that comes up again is only referred to."""
    found = next(each for each in crd["spec"]["versions"] if each["name"] == version)
    schema = _without_prose(found["schema"]["openAPIV3Schema"])
    schema["properties"].pop("status", None)
    templates: list[Schema] = []
    schema = _shared(schema, templates)
    if templates:
        schema["$defs"] = {"podTemplate": templates[0]}
    names = crd["spec"]["names"]
    return {"x-crd": f"{crd['metadata']['name']} {version}", "x-kind": names["kind"], **schema}


def strict(schema: Schema) -> Schema:
    """The same schema with unknown fields refused, except where the CRD keeps them."""
    return _closed(copy.deepcopy(schema), root=True)


def load(kind: str, version: str) -> Schema:
    """The strict schema of a kind, from tests/data/crds."""
    schema: Schema = json.loads((DATA / f"{kind.lower()}-{version}.json").read_text(encoding="utf-8"))
    return strict(schema)


def complaints(manifest: Schema) -> list[str]:
    """What is wrong with a custom resource, a line each."""
    kind, version = manifest["kind"], manifest["apiVersion"].split("/")[1]
    validator = jsonschema.Draft202012Validator(load(kind, version))
    return [f"{kind}: {error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]


def _without_prose(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            key: _without_prose(value)
            for key, value in node.items()
            if not (key == "description" and isinstance(value, str))
        }
    return [_without_prose(item) for item in node] if isinstance(node, list) else node


def _shared(node: Any, templates: list[Schema]) -> Any:
    """With each Pod template replaced by a reference; all have to be equal."""
    if isinstance(node, list):
        return [_shared(item, templates) for item in node]
    if not isinstance(node, dict):
        return node
    replaced = {}
    for key, value in node.items():
        if key == "template" and isinstance(value, dict) and "properties" in value:
            templates.append(value)
            if value != templates[0]:
                raise ValueError("the CRD has two different Pod templates")
            replaced[key] = {"$ref": "#/$defs/podTemplate"}
        else:
            replaced[key] = _shared(value, templates)
    return replaced


def _closed(node: Any, *, root: bool = False) -> Any:
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    closed = {key: _closed(value) for key, value in node.items()}
    open_by_intent = node.get("x-kubernetes-preserve-unknown-fields") or node.get("x-kubernetes-embedded-resource")
    if isinstance(node.get("properties"), dict) and not open_by_intent and "additionalProperties" not in node:
        closed["additionalProperties"] = False
    if root:
        closed["required"] = sorted({*node.get("required", []), "apiVersion", "kind", "metadata"})
    return closed


if __name__ == "__main__":
    document = yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8"))
    json.dump(trimmed(document, sys.argv[2]), sys.stdout, separators=(",", ":"), sort_keys=True)
    sys.stdout.write("\n")
