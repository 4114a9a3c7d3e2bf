{{ config(enabled=is_staged("stripe", "subscriptions")) }}

with

source as (

    select * from {{ source("raw_stripe", "subscriptions") }}

),

renamed as (

    select
        _source as source,
        _stream as stream,
        _account_source as account_source,
        subscription_id,
        account_id as source_account_id,
        product,
        plan,
        seats,
        mrr_usd,
        started_at,
        ended_at,
        end_reason,
        renews_at,
        billing_interval,
        is_trial,
        updated_at,
        _loaded_at as loaded_at
    from source

)

select * from renamed
