{{ config(enabled="sync_salesforce_accounts" in var("sync_models", [])) }}

-- Accounts that the CRM knows, with Salesforce's API names, which keep their capitals.
-- noqa: disable=CP02

with

scores as (

    select * from {{ ref("customer_scores") }}

),

final as (

    select
        crm_account_id,
        churn_probability as Tenure_Churn_Probability__c,
        churn_tier as Tenure_Churn_Tier__c,
        churn_percentile as Tenure_Churn_Percentile__c,
        churn_probability_change_7d as Tenure_Churn_Probability_Change_7d__c,
        is_fallback as Tenure_Churn_Is_Fallback__c,
        reason_1_text as Tenure_Churn_Reason_1__c,
        reason_2_text as Tenure_Churn_Reason_2__c,
        reason_3_text as Tenure_Churn_Reason_3__c,
        reason_1_code as Tenure_Churn_Reason_1_Code__c,
        reason_2_code as Tenure_Churn_Reason_2_Code__c,
        reason_3_code as Tenure_Churn_Reason_3_Code__c,
        change_reason_text as Tenure_Churn_Change_Reason__c,
        mrr as Tenure_MRR__c,
        mrr_at_risk as Tenure_MRR_At_Risk__c,
        renewal_date as Tenure_Renewal_Date__c,
        score_coverage_pct as Tenure_Score_Coverage_Pct__c,
        as_of_date as Tenure_Score_As_Of_Date__c,
        model_version as Tenure_Score_Model_Version__c,
        scored_at as Tenure_Scored_At__c
    from scores
    where crm_account_id is not null

)

select * from final
