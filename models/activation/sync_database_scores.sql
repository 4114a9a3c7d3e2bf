{{ config(enabled="sync_database_scores" in var("sync_models", [])) }}

-- Every score, for a table of a database.

{{ every_score() }}
