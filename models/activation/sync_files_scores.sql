{{ config(enabled="sync_files_scores" in var("sync_models", [])) }}

-- Every score, for a folder of files.

{{ every_score() }}
