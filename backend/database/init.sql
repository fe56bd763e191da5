-- The table of advertising cases, for a database that does not have it yet:
--
--     createdb -U postgres ad_case_db
--     psql -U postgres -d ad_case_db -v ON_ERROR_STOP=1 -f database/init.sql
--     psql -U postgres -d ad_case_db -v ON_ERROR_STOP=1 -f database/migrations/006_add_main_image_local_field.sql
--
-- Needs PostgreSQL 12 or newer and no extension. The vector columns of semantic search belong to another program and are
-- not created here. Running this file again changes nothing.

CREATE TABLE IF NOT EXISTS ad_cases (
    id             BIGSERIAL PRIMARY KEY,
    case_id        INTEGER UNIQUE NOT NULL CHECK (case_id > 0),
    source_url     TEXT NOT NULL,
    title          VARCHAR(500) NOT NULL,
    description    TEXT,
    author         VARCHAR(100),
    publish_time   DATE,
    main_image     TEXT,
    images         JSONB DEFAULT '[]',
    video_url      TEXT,
    brand_name     VARCHAR(200),
    brand_industry VARCHAR(100),
    activity_type  VARCHAR(100),
    location       VARCHAR(100),
    tags           JSONB DEFAULT '[]',
    score          INTEGER,
    score_decimal  VARCHAR(10),
    favourite      INTEGER DEFAULT 0,
    company_name   VARCHAR(200),
    company_logo   TEXT,
    agency_name    VARCHAR(200),
    title_tsvector TSVECTOR,
    created_at     TIMESTAMPTZ DEFAULT now(),
    updated_at     TIMESTAMPTZ DEFAULT now()
);

CREATE INDEX IF NOT EXISTS idx_ad_cases_publish_time ON ad_cases (publish_time DESC NULLS LAST, case_id DESC);
CREATE INDEX IF NOT EXISTS idx_ad_cases_brand_name ON ad_cases (brand_name);
CREATE INDEX IF NOT EXISTS idx_ad_cases_brand_industry ON ad_cases (brand_industry);
CREATE INDEX IF NOT EXISTS idx_ad_cases_tags ON ad_cases USING gin (tags);
