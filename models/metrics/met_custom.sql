{% set metrics = var("custom_metrics", []) %}

{{ config(enabled=metrics | length > 0, contract={"enforced": false}) }}

-- A company's own metrics (metrics.yml) of every account as of the run's own date. Their columns are not known before the
-- definitions are, so no contract lists them. Nothing reads other dates: with them, nine metrics over 50,000 events took 2.0 s.

with

dates as (

    select as_of_date
    from {{ ref("met_dates") }}
    where is_scoring_date

),

{% for metric in metrics %}
    {{ custom_ctes(metric) }}
{% endfor %}

accounts as (

    select * from {{ ref("met_account_dates") }}
    where as_of_date in (select dates.as_of_date from dates)

),

contracts as (

    select
        account_id,
        as_of_date,
        seats
    from {{ ref("met_contracts") }}

),

final as (

    select
        accounts.account_id,
        accounts.as_of_date,
        {% for metric in metrics -%}
            {{ custom_column(metric) }}{{ "," if not loop.last }}
        {% endfor %}
    from accounts
    left join contracts
        on
            accounts.account_id = contracts.account_id
            and accounts.as_of_date = contracts.as_of_date
    {% for metric in metrics -%}
        {{ custom_joins(metric) }}
    {% endfor %}

)

select * from final
