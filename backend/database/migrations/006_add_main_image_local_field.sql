-- Adds ad_cases.main_image_local, the local URL of the copy of main_image, with a comment and a partial index.
--
-- Safe to run again, and on a table in use. It locks the table only if something is missing, and waits for the lock one
-- second at a time, so that other queries are never blocked for longer; after 20 attempts it stops without a change.
-- Adding the column does not rewrite the table. Building the index reads the whole table while writers wait; if the
-- table is larger than 1 GiB, the command is printed instead, for you to run.
--
-- Works with psql -f and -1, and in one call of a driver's execute(); therefore it cannot use CREATE INDEX CONCURRENTLY,
-- nor tell psql to return an exit status for an error: give it -v ON_ERROR_STOP=1.

DO $column$
DECLARE
    attempts integer := 0;
BEGIN
    IF to_regclass('ad_cases') IS NULL THEN
        RAISE EXCEPTION 'There is no table ad_cases in database %: run database/init.sql first.', current_database();
    END IF;
    WHILE NOT EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = to_regclass('ad_cases') AND attname = 'main_image_local' AND NOT attisdropped
    ) LOOP
        BEGIN
            PERFORM set_config('lock_timeout', '1s', true);
            ALTER TABLE ad_cases ADD COLUMN IF NOT EXISTS main_image_local TEXT;
            COMMENT ON COLUMN ad_cases.main_image_local IS
                'Local URL of the copy of main_image, such as /static/images/297041/main_image.png; '
                'NULL until the copy is held. Written by rehost.';
        EXCEPTION WHEN lock_not_available THEN
            attempts := attempts + 1;
            IF attempts = 20 THEN
                RAISE EXCEPTION 'Other transactions locked ad_cases % times in a row: run this file again when '
                    'they have ended (pg_stat_activity shows them).', attempts;
            END IF;
            PERFORM pg_sleep(0.2);
        END;
    END LOOP;
END
$column$;

DO $index$
DECLARE
    attempts integer := 0;
    definition CONSTANT text := 'idx_ad_cases_main_image_local ON ad_cases (case_id) '
                                'WHERE main_image IS NOT NULL AND main_image_local IS NULL';
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = to_regclass('ad_cases') AND attname = 'main_image_local' AND NOT attisdropped
    ) THEN
        RETURN; -- the first block has reported why
    END IF;
    WHILE NOT EXISTS (
        SELECT FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
        WHERE indrelid = to_regclass('ad_cases') AND relname = 'idx_ad_cases_main_image_local'
    ) LOOP
        BEGIN
            PERFORM set_config('lock_timeout', '1s', true);
            IF pg_relation_size('ad_cases') > 1024 ^ 3 THEN
                RAISE NOTICE 'ad_cases is large; when convenient, run: CREATE INDEX CONCURRENTLY %', definition;
                EXIT;
            END IF;
            EXECUTE 'CREATE INDEX IF NOT EXISTS ' || definition;
        EXCEPTION WHEN lock_not_available THEN
            attempts := attempts + 1;
            IF attempts = 20 THEN
                RAISE EXCEPTION 'The column exists, its index does not: other transactions locked ad_cases % times '
                    'in a row; run this file again when they have ended.', attempts;
            END IF;
            PERFORM pg_sleep(0.2);
        END;
    END LOOP;
END
$index$;
