-- The tables of both demo databases. What was in them before is dropped.

create extension if not exists vector;

drop schema if exists askwealth cascade;
create schema askwealth;
do $$ begin execute format('comment on schema askwealth is %L', current_setting('demo.label')); end $$;

create table askwealth.thread (
    thread_id   uuid primary key,
    user_id     uuid not null,
    title       text not null,
    is_archived boolean not null default false,
    created_at  timestamptz not null,
    updated_at  timestamptz not null
);

-- No foreign key to thread: messages are loaded on their own.
create table askwealth.message (
    message_id  uuid primary key,
    role        text not null,
    parts       jsonb not null,
    created_at  timestamptz not null,
    thread_id   uuid not null,
    annotations jsonb
);
create index message_created_at on askwealth.message (created_at);
create index message_thread_id on askwealth.message (thread_id);

create table askwealth.document (
    document_id  uuid primary key,
    kind         text not null,
    title        text not null,
    source_url   text not null unique,
    published_on date not null,
    ongoing_fee  numeric(6, 4),
    tags         text[] not null,
    created_at   timestamptz not null
);

create table askwealth.chunk (
    chunk_id    uuid primary key,
    document_id uuid not null references askwealth.document,
    position    integer not null,
    body        text not null,
    embedding   vector(32) not null,
    unique (document_id, position)
);
