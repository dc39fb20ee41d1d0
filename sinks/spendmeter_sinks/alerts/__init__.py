"""The alert relay: `spend.alerts` to webhooks, chat, mail and pagers, at least once by `alert_id`."""
