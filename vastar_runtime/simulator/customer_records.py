"""The customers that there are from the start: the same in every run."""

import hashlib
import random
from typing import Any

CUSTOMERS = 230

_FIRST_UNIX_S = 1_735_693_200
_HOUR_S = 3600
_FIRST_NAMES = ("Ayu", "Bilal", "Chiara", "Dmitri", "Esi", "Fatima", "Goran", "Hana", "Ivo", "Jia")
_LAST_NAMES = ("Aziz", "Brandt", "Castro", "Dahl", "Evans", "Fontaine", "Goto", "Hassan", "Ito", "Jansen")
_PLANS = ("free", "team", "enterprise")


def customer_id(number: int) -> str:
    return "cus_" + hashlib.sha256(b"customer %d" % number).hexdigest()[:14]


def customer(number: int) -> dict[str, Any]:
    """The customer with a number from 0; a higher number is a newer one."""
    chosen = random.Random(number)
    first, last = chosen.choice(_FIRST_NAMES), chosen.choice(_LAST_NAMES)
    return {
        "id": customer_id(number),
        "object": "customer",
        "created": _FIRST_UNIX_S + number * _HOUR_S,
        "description": None,
        "email": f"{first}.{last}.{number}@example.com".lower(),
        "livemode": False,
        "metadata": {"plan": chosen.choice(_PLANS)},
        "name": f"{first} {last}",
        "phone": None,
    }
