{{ config(enabled="sync_webhook_scores" in var("sync_models", [])) }}

-- Every score, for a webhook.

{{ every_score() }}
