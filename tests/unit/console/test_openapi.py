"""docs/reference/openapi.json is what the code says, and a document that OpenAPI's readers understand."""

from pathlib import Path

from jsonschema import Draft202012Validator

from spendmeter_console.api.openapi import document, text

PAGE = Path(__file__).parents[3] / "docs/reference/openapi.json"


def test_the_document_that_is_checked_in_is_the_codes() -> None:
    assert PAGE.read_text(encoding="utf-8") == text(), "`make openapi` writes it anew"


def test_each_schema_is_one_and_each_reference_leads_somewhere() -> None:
    schemas = document()["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    referred = {part.split('"')[0] for part in text().split('"#/components/schemas/')[1:]}

    assert referred <= set(schemas)
    assert {"BudgetsPage", "AccountsPage", "SpendPage", "EventsPage", "RefusalDetail", "MeView"} <= set(
        schemas
    )
