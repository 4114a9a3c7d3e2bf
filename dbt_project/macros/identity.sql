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

{# Domains that say nothing about the company: whoever matches on them matches strangers. #}
{% macro free_mail_domains() -%}
    {{ return([
        "gmail.com", "googlemail.com", "outlook.com", "hotmail.com", "hotmail.co.uk", "hotmail.fr", "live.com", "msn.com",
        "yahoo.com", "yahoo.co.uk", "yahoo.co.jp", "yahoo.fr", "yahoo.de", "ymail.com", "icloud.com", "me.com",
        "mac.com", "aol.com", "proton.me", "protonmail.com", "gmx.de", "gmx.net", "gmx.com", "web.de", "t-online.de",
        "mail.com", "mail.ru", "yandex.ru", "yandex.com", "qq.com", "163.com", "126.com", "zoho.com", "fastmail.com",
        "orange.fr", "free.fr", "laposte.net", "libero.it", "comcast.net", "verizon.net", "btinternet.com",
    ]) }}
{%- endmacro %}

{% macro is_free_mail(domain) -%}
    {{ domain }} in ({% for free in free_mail_domains() %}'{{ free }}'{{ ", " if not loop.last }}{% endfor %})
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
