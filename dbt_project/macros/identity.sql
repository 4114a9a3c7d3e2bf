{# How two records of different systems are recognised as one company. The rules in order stand in int_accounts_matched. #}

{# `https://www.Acme.com/about`, `jo@acme.com` and `acme.com` are one domain. #}
{% macro normalised_domain(domain) -%}
    {%- set bare = replace_pattern("lower(trim(" ~ domain ~ "))", "^[a-z]+://|^.*@", "") -%}
    nullif({{ replace_pattern(bare, "^www[.]|[/:?#,; ].*$|[.]+$", "") }}, '')
{%- endmacro %}

{# `ACME, Inc.`, `Acme Inc` and `acme` are one name: lower case, no punctuation, no legal form at the end. #}
{% macro normalised_name(name) -%}
    {%- set undotted = "replace(replace(lower(" ~ name ~ "), '.', ''), '''', '')" -%}
    {%- set words = "trim(" ~ replace_pattern(undotted, "[^\\p{L}\\p{N}]+", " ") ~ ")" -%}
    nullif({{ replace_pattern(words, "( (" ~ legal_forms() | join("|") ~ "))+$", "") }}, '')
{%- endmacro %}

{% macro legal_forms() -%}
    {{ return([
        "inc", "incorporated", "corp", "corporation", "co", "company", "llc", "llp", "lp", "ltd", "limited", "plc",
        "pty", "pte", "pvt", "gmbh", "ag", "kg", "kgaa", "ug", "se", "sa", "sas", "sarl", "srl", "spa", "sl", "bv",
        "nv", "ab", "as", "aps", "oy", "oyj", "kft", "zrt", "doo", "sro", "spzoo", "kk", "ltda",
        "eirl", "eurl", "sprl", "snc", "uab", "sia",
    ]) }}
{%- endmacro %}

{#
  An id in the one form in which it is compared: `5012.0`, which spreadsheets and data frames make of a number, is 5012; GUIDs are
  compared without case and braces; an id of Salesforce's with 15 characters, which differ by case, is written with 18, of which
  the last three say which letters are capital.
#}
{% macro canonical_id(id) -%}
    case
        when {{ matches("trim(" ~ id ~ ")", "^[0-9]{15}[.]0+$") }}
            then {{ replace_pattern("trim(" ~ id ~ ")", "[.]0+$", "") }} || 'AAA'
        when {{ matches("trim(" ~ id ~ ")", "^[0-9]+[.]0+$") }} then {{ replace_pattern("trim(" ~ id ~ ")", "[.]0+$", "") }}
        when {{ matches("trim(" ~ id ~ ")", "^[{]?[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}[}]?$") }}
            then {{ replace_pattern("lower(trim(" ~ id ~ "))", "[{}]", "") }}
        when {{ matches("trim(" ~ id ~ ")", "^[0-9a-zA-Z]{15}$") }}
            then trim({{ id }}) || {{ salesforce_suffix("trim(" ~ id ~ ")") }}
        else trim({{ id }})
    end
{%- endmacro %}

{# The three characters that Salesforce appends: one for each five, whose capitals are the bits of its place in the list. #}
{% macro salesforce_suffix(id) -%}
    {%- for chunk in range(3) -%}
        substr('ABCDEFGHIJKLMNOPQRSTUVWXYZ012345', 1
        {%- for bit in range(5) %}
            + case when substr({{ id }}, {{ 5 * chunk + bit + 1 }}, 1) between 'A' and 'Z' then {{ 2 ** bit }} else 0 end
        {%- endfor %}, 1){{ " || " if not loop.last }}
    {%- endfor -%}
{%- endmacro %}

{% macro first_label(domain) -%}
    {{ dbt.split_part(domain, "'.'", 1) }}
{%- endmacro %}

{# The last `count` labels of a domain: the last two of `eu.blog.naver.com` are `naver.com`. NULL where it has fewer. #}
{% macro last_labels(domain, count) -%}
    case
        when {{ matches(domain, "^([^.]+[.]){" ~ (count - 1) ~ ",}[^.]+$") }}
            then {% for place in range(count, 0, -1) -%}
                {{ dbt.split_part(domain, "'.'", -place) }}{{ " || '.' || " if not loop.last }}
            {%- endfor %}
    end
{%- endmacro %}

{# Position of a source in identity_precedence; sources that are not listed come last. #}
{% macro source_position(source) -%}
    case {{ source }}
        {%- for listed in var("identity_precedence") %} when '{{ listed }}' then {{ loop.index }}{% endfor %}
        else 1000
    end
{%- endmacro %}

{#
  Who owns an account, as an id that says nothing about the person: the id of the source, or else a keyed hash of the address (of the
  name, where there is no address). What holds an @ is an address, whatever the mapping calls it. The key is the home's own: without
  it, whoever guesses an address cannot find it in what is published.
#}
{% macro opaque_owner(accounts, is_primary_source) -%}
    case
        when {{ accounts }}.owner_id not like '%@%'
            then case when {{ is_primary_source }} then '' else {{ accounts }}.source || ':' end || {{ accounts }}.owner_id
        else {{ dbt.hash(
            "(select coalesce(max(known.hash_key), '') from " ~ ref("stg_ledger__owner_keys") ~ " as known) || lower(trim(coalesce("
            ~ accounts ~ ".owner_email, " ~ accounts ~ ".owner_id, " ~ accounts ~ ".owner_name)))"
        ) }}
    end
{%- endmacro %}
