-- Each API process asks every second which windows ended since, and no window is ever deleted.
CREATE INDEX maintenance_windows_by_end ON maintenance_windows (upper(during)) WHERE cancelled_at IS NULL;
