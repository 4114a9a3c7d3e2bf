{{ config(materialized="view") }}

-- What a model learns from: the features of the dates of the calendar, and what became of the account.

with

snapshots as (

    select * from {{ ref("ftr_account_snapshots") }}

),

labels as (

    select * from {{ ref("ftr_account_labels") }}

),

final as (

    select
        {{ documented_columns("snapshots", without=["has_churned", "lost_date", "mrr_lost"]) }},
        labels.has_churned,
        labels.lost_date,
        labels.mrr_lost
    from snapshots
    inner join labels
        on
            snapshots.account_id = labels.account_id
            and snapshots.as_of_date = labels.as_of_date
    where
        snapshots.is_sampled
        and snapshots.feature_set = '{{ feature_set() }}'
        and labels.has_churned is not null

)

select * from final
