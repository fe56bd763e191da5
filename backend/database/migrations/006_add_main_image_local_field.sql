-- Adds ad_cases.main_image_local, the local URL of the copy of main_image, with a comment and a partial index.
--
-- Safe to run again, and on a table in use: a lock is taken only for what is not there yet, and is waited for one
-- second at a time, so that nobody queues behind it for longer; after 20 times it gives up and has changed nothing.
-- Adding the column rewrites nothing. The index needs one pass over the table, during which writers wait: on a table
-- of more than 1 GiB that pass is left to you, and the command is printed.
--
-- Runs under psql -f and -1, and as a whole through a driver's execute(), hence no CREATE INDEX CONCURRENTLY in here.

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
                RAISE EXCEPTION 'ad_cases was locked by others % times in a row: run this file again when their '
                    'transactions have ended (pg_stat_activity shows them).', attempts;
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
        RETURN; -- said above why
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
                RAISE EXCEPTION 'The column is there, its index is not yet: ad_cases was locked by others % times in a '
                    'row; run this file again when their transactions have ended.', attempts;
            END IF;
            PERFORM pg_sleep(0.2);
        END;
    END LOOP;
END
$index$;
