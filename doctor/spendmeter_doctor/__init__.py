"""Before and after going live: `spendmeter doctor` finds what is wrong, `spendmeter attach` adds"
" us to LiteLLM."""
