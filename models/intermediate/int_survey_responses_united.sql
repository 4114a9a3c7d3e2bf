{{ config(materialized="view") }}

-- Survey answers of all sources before the as-of date.

with

survey_responses as (

    select * from {{ union_staged("survey_responses") }} as staged

),

accounts as (

    select * from {{ ref("int_accounts_matched") }}

),

united as (

    select
        survey_responses.source,
        survey_responses.stream,
        survey_responses.response_id,
        accounts.account_id,
        survey_responses.contact_id,
        survey_responses.kind,
        survey_responses.score,
        survey_responses.responded_at,
        survey_responses.comment
    from survey_responses
    inner join accounts
        on
            survey_responses.account_source = accounts.source
            and survey_responses.source_account_id = accounts.source_account_id
    where survey_responses.responded_at < {{ as_of() }}

)

select * from united
