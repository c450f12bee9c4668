"""Other names of models, each declared: a provider's dated name finds the profile of the model it is asked for by."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone

from sqlalchemy import Connection, delete, insert, select

from ..calibration.key import ProfileKey
from ..errors import RegistryError
from ..storage import Read
from .tables import ALIASES, storable
from .versions import reader


def declare_alias(connection: Connection, name: str, model: str, *, by: str, shown: str) -> bool:
    """Have a name stand for a model; False where it does already. Raises as ``CalibrationRegistry.alias``."""
    storable("the alias", name)
    storable("the model's name", model)
    there = all_aliases(reader(connection))
    if there.get(name) == model:
        return False
    if name == model:
        raise RegistryError(f"{name!r} cannot be an alias of itself")
    if name in there:
        raise RegistryError(
            f"{shown}: {name!r} is an alias of {there[name]!r} already: unalias it before it stands for {model!r}"
        )
    if model in there:
        raise RegistryError(
            f"{shown}: {model!r} is itself an alias, of {there[model]!r}: have {name!r} stand for that directly"
        )
    if followers := sorted(alias for alias, of in there.items() if of == name):
        raise RegistryError(
            f"{shown}: {name!r} has an alias itself, {followers[0]!r}: aliases are not followed twice, so have it "
            f"stand for {model!r} first"
        )
    now = datetime.now(timezone.utc)
    connection.execute(insert(ALIASES).values(alias=name, model=model, at=now, by=storable("by", by)))
    return True


def withdraw_alias(connection: Connection, name: str, shown: str) -> None:
    """Have a name stand for nothing but itself; raises RegistryError where it is no alias."""
    there = all_aliases(reader(connection))
    if name not in there:
        raise RegistryError(f"{shown}: {name!r} is no alias; there are {', '.join(sorted(there)) or 'none'}")
    connection.execute(delete(ALIASES).where(ALIASES.c.alias == name))


def all_aliases(read: Read) -> Mapping[str, str]:
    """The aliases and what each stands for, by name."""
    return {row.alias: row.model for row in read(select(ALIASES).order_by(ALIASES.c.alias))}


def key_behind(read: Read, key: ProfileKey) -> ProfileKey | None:
    """The same key of the model that its model is an alias of; None where it is none."""
    name = key.model.replace("\0", "\ufffd")  # no alias has a zero character, and PostgreSQL takes none in a query
    rows = read(select(ALIASES.c.model).where(ALIASES.c.alias == name))
    return key.model_copy(update={"model": rows[0].model}) if rows else None
