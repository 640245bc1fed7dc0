"""What the access can be told. PURE."""

import ipaddress
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, StringConstraints, model_validator

MIN_KEY_CHARACTERS = 16
MIN_SECRET_BYTES = 32
"""As many as SHA-256 puts out: a shorter one is the weakest part of HS256 (RFC 7518, 3.2)."""
Count = Annotated[int, Field(ge=1)]


def _network(value: str) -> str:
    ipaddress.ip_network(value)
    return value


def _key(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value().strip()) < MIN_KEY_CHARACTERS:
        raise ValueError(f"a key needs at least {MIN_KEY_CHARACTERS} characters")
    return value


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class AuthOptions(_Options):
    """Who is let in; anybody when neither keys nor a secret for tokens are given."""

    api_keys: tuple[Annotated[SecretStr, AfterValidator(_key)], ...] | None = Field(default=None, min_length=1)
    """Each opens any stream."""
    jwt_secret: SecretStr | None = None
    """Shared with whoever signs tokens."""
    jwt_audience: Annotated[str, StringConstraints(min_length=1)] | None = None
    """The `aud` that a token must carry."""
    jwt_algorithm: Literal["HS256", "HS384", "HS512"] = "HS256"
    """The only one that is accepted, whatever a token's header says."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.jwt_secret is None) != (self.jwt_audience is None):
            raise ValueError("jwt_secret and jwt_audience are needed together")
        if self.jwt_secret is not None and len(self.jwt_secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"jwt_secret needs at least {MIN_SECRET_BYTES} bytes")
        return self


class AccessOptions(_Options):
    """Where callers may come from."""

    origins: tuple[Annotated[str, StringConstraints(pattern=r"^https?://[^/*\s]+$", to_lower=True)], ...] | None = None
    """Pages that may connect, such as https://studio.example; None: all. Callers without an Origin are no pages."""
    trusted_proxies: tuple[Annotated[str, AfterValidator(_network)], ...] = ()
    """Networks whose X-Forwarded-For is believed, such as 10.0.0.0/8."""


class Rates(_Options):
    """How much one caller may have at once; None: no limit."""

    connections: Count | None = None
    streams: Count | None = None
    bytes_per_s: Count | None = None
    """Of encoded audio; ten seconds' worth may come at once."""
    fragments_per_minute: Count | None = None
    """A minute's worth may come at once."""


class LimitsConfig(_Options):
    """Limits of each key or token's subject, and of each address."""

    per_key: Rates = Rates()
    per_address: Rates = Rates()
