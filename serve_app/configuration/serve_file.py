"""The Serve configuration file that the service is run with: read, checked, and its parts.

The shape is Serve's; `args` of the application and `user_config` of two deployments are ours, and `config` knows them.
"""

import os
from pathlib import Path
from typing import Any

import yaml

from deployments.replica.scaling import scaling_options
from serve_app.configuration.loading import ConfigError, load_args, load_asr_user_config, load_user_config, load_voices
from serve_app.configuration.serve_schema import BUILD, check_serve_options
from serve_app.configuration.shipped import configuration, names

POLICY = "serve_app.autoscaling:FragmentPolicy"
"""The scaling policy of model deployments, as a file names it."""


def read_config(path: Path) -> dict[str, Any]:
    """A Serve configuration file, with everything in it that is ours checked against the environment too.

    Raises:
        ConfigError: no such file, no YAML, or a wrong field, which is named.
    """
    return checked(read_schema(path))


def checked(schema: dict[str, Any]) -> dict[str, Any]:
    """The same configuration, once all that is ours in it has been checked against the environment too.

    Raises:
        ConfigError: naming the wrong field.
    """
    config = load_args(args_of(schema), os.environ)
    load_voices(config.voices)
    check_live(schema)
    return schema


def check_live(schema: dict[str, Any]) -> None:
    """Refuse what is wrong in the parts that may change while streams run.

    Raises:
        ConfigError: naming the wrong field.
    """
    load_user_config(user_config_of(schema), os.environ)
    load_asr_user_config(user_config_of(schema, "Asr"))


def read_schema(path: Path) -> dict[str, Any]:
    """A Serve configuration file, or the shipped one of that name: Serve's part checked, our values not.

    Raises:
        ConfigError: no such file, no YAML, or an option that Serve would refuse or ignore.
    """
    try:
        schema = yaml.safe_load(configuration(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; by name there are {', '.join(names())}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    applications = schema.get("applications") if isinstance(schema, dict) else None
    if not isinstance(applications, list) or not applications:
        raise ConfigError(f"{path}: `applications` is missing; it needs one with import_path {BUILD}")
    _check_shape(applications[0])
    check_serve_options(schema)
    return {**schema}


def _check_shape(application: object) -> None:
    """What must hold before the parts can be looked at."""
    if not isinstance(application, dict):
        raise ConfigError(f"applications.0: needs an object; got {application!r}")
    if not isinstance(application.get("args") or {}, dict):
        raise ConfigError(f"applications.0.args: needs an object; got {application['args']!r}")
    deployments = application.get("deployments") or []
    if not isinstance(deployments, list) or not all(isinstance(deployment, dict) for deployment in deployments):
        raise ConfigError("applications.0.deployments: needs a list of objects, each with a name")
    for index, deployment in enumerate(deployments):
        if not isinstance(deployment.get("user_config") or {}, dict):
            raise ConfigError(f"applications.0.deployments.{index}.user_config: needs an object")
        _check_scaling(deployment.get("autoscaling_config"), f"applications.0.deployments.{index}.autoscaling_config")


def _check_scaling(scaling: object, place: str) -> None:
    """Our own policy, if it is named: Serve looks at its options only in the controller, where nobody sees why."""
    policy = scaling.get("policy") if isinstance(scaling, dict) else None
    if policy is None:
        return
    if not isinstance(policy, dict):
        raise ConfigError(f"{place}.policy: needs an object with policy_function; got {policy!r}")
    name, given = policy.get("policy_function"), policy.get("policy_kwargs") or {}
    if isinstance(name, str) and name.startswith("serve_app.") and name != POLICY:
        raise ConfigError(f"{place}.policy.policy_function: there is only {POLICY}; got {name!r}")
    if name != POLICY:
        return
    if not isinstance(given, dict):
        raise ConfigError(f"{place}.policy.policy_kwargs: needs an object; got {given!r}")
    try:
        scaling_options(given)
    except ValueError as error:
        raise ConfigError(f"{place}.policy.policy_kwargs.{error}") from None


def args_of(schema: dict[str, Any]) -> dict[str, Any]:
    """The application's `args`."""
    args: dict[str, Any] = schema["applications"][0].get("args") or {}
    return args


def user_config_of(schema: dict[str, Any], name: str = "Ingress") -> dict[str, Any]:
    """A deployment's `user_config`; empty when the file has none."""
    for deployment in schema["applications"][0].get("deployments") or []:
        if deployment.get("name") == name:
            user_config: dict[str, Any] = deployment.get("user_config") or {}
            return user_config
    return {}


def draining(schema: dict[str, Any]) -> dict[str, Any]:
    """The same configuration with the Ingress told to drain."""
    application = dict(schema["applications"][0])
    deployments = [dict(deployment) for deployment in application.get("deployments") or []]
    ingress = next((d for d in deployments if d.get("name") == "Ingress"), None)
    if ingress is None:
        ingress = {"name": "Ingress"}
        deployments.append(ingress)
    ingress["user_config"] = {**(ingress.get("user_config") or {}), "draining": True}
    application["deployments"] = deployments
    return {**schema, "applications": [application, *schema["applications"][1:]]}
