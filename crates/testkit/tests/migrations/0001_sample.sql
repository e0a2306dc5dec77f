CREATE TABLE sample (n bigint NOT NULL);
