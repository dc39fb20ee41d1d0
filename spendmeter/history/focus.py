"""FOCUS 1.2: what was spent in the columns that FinOps tools read, one row a day and key and model. Pure.

Columns that say nothing here (commitments, capacity, regions, invoices) are there and empty, as the
specification has it. Costs have nine decimals, times are UTC.
"""

from typing import Final

_TIME: Final = "'%Y-%m-%dT%H:%i:%SZ'"
_COST: Final = "toDecimalString(spent_usd, 9)"
_TOKENS: Final = "toString(input_tokens + output_tokens)"
_TAGS: Final = (
    "toJSONString(mapFilter((name, value) -> value != '', map('user', user, 'user_name', user_alias,"
    " 'project', project, 'project_name', project_alias, 'model_group', model_group, 'gateway', gateway)))"
)


def _name(alias: str, identity: str) -> str:
    return f"coalesce(nullIf({alias}, ''), {identity})"


FOCUS_COLUMNS: Final[dict[str, str]] = {
    "AvailabilityZone": "",
    "BilledCost": _COST,
    "BillingAccountId": "organization",
    "BillingAccountName": _name("organization_alias", "organization"),
    "BillingAccountType": "'Organization'",
    "BillingCurrency": "'USD'",
    "BillingPeriodEnd": f"formatDateTime(toDateTime(toStartOfMonth(day) + INTERVAL 1 MONTH, 'UTC'), {_TIME})",
    "BillingPeriodStart": f"formatDateTime(toDateTime(toStartOfMonth(day), 'UTC'), {_TIME})",
    "CapacityReservationId": "",
    "CapacityReservationStatus": "",
    "ChargeCategory": "'Usage'",
    "ChargeClass": "",
    "ChargeDescription": "concat(toString(requests), ' requests to ', model)",
    "ChargeFrequency": "'Usage-Based'",
    "ChargePeriodEnd": f"formatDateTime(toDateTime(day + 1, 'UTC'), {_TIME})",
    "ChargePeriodStart": f"formatDateTime(toDateTime(day, 'UTC'), {_TIME})",
    "CommitmentDiscountCategory": "",
    "CommitmentDiscountId": "",
    "CommitmentDiscountName": "",
    "CommitmentDiscountQuantity": "",
    "CommitmentDiscountStatus": "",
    "CommitmentDiscountType": "",
    "CommitmentDiscountUnit": "",
    "ConsumedQuantity": _TOKENS,
    "ConsumedUnit": "'Tokens'",
    "ContractedCost": _COST,
    "ContractedUnitPrice": "",
    "EffectiveCost": _COST,
    "InvoiceId": "",
    "InvoiceIssuerName": "provider",
    "ListCost": _COST,
    "ListUnitPrice": "",
    "PricingCategory": "'Standard'",
    "PricingCurrency": "'USD'",
    "PricingCurrencyContractedUnitPrice": "",
    "PricingCurrencyEffectiveCost": _COST,
    "PricingCurrencyListUnitPrice": "",
    "PricingQuantity": _TOKENS,
    "PricingUnit": "'Tokens'",
    "ProviderName": "provider",
    "PublisherName": "provider",
    "RegionId": "",
    "RegionName": "",
    "ResourceId": "key",
    "ResourceName": _name("key_alias", "key"),
    "ResourceType": "'API key'",
    "ServiceCategory": "'AI and Machine Learning'",
    "ServiceName": "concat(provider, ' API')",
    "ServiceSubcategory": "'Generative AI'",
    "SkuId": "model",
    "SkuMeter": "'Tokens'",
    "SkuPriceDetails": "",
    "SkuPriceId": "",
    "SubAccountId": "team",
    "SubAccountName": _name("team_alias", "team"),
    "SubAccountType": "'Team'",
    "Tags": _TAGS,
}
"""Column: what it is of a row of `by_day`, as SQL; empty: null."""
