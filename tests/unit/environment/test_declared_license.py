"""What METADATA says about licenses, in all the forms that it has had."""

from __future__ import annotations

from email import message_from_string
from typing import Any

import pytest

from layer_minimizer.environment.declared_license import declared_license
from layer_minimizer.model.installed import DeclaredLicense

OSI = "Classifier: License :: OSI Approved"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ("Name: a", DeclaredLicense()),
        ("License-Expression: MIT OR 0BSD\nLicense: old", DeclaredLicense("MIT OR 0BSD")),
        (f"License: MIT\n{OSI} :: BSD License", DeclaredLicense(names=("MIT",))),
        (f"License: UNKNOWN\n{OSI}\n{OSI} :: BSD License\n{OSI} :: MIT License",
         DeclaredLicense(names=("BSD License", "MIT License"))),
        (f"License: Copyright (c)\n        All rights reserved\n{OSI} :: ISC License",
         DeclaredLicense(names=("ISC License",))),
        (f"License: {'x' * 200}", DeclaredLicense()),
        ("License-File: LICENSE\nLicense-File: legal/./NOTICE\nLicense-File: LICENSE\nLicense-File: ",
         DeclaredLicense(files=("LICENSE", "legal/NOTICE"))),
    ],
)  # fmt: skip
def test_forms(headers: str, expected: DeclaredLicense) -> None:
    message: Any = message_from_string(f"{headers}\n\nThe description, in which License: no is no header.\n")
    assert declared_license(message) == expected
