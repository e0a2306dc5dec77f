-- Whether a machine runs what a template names: its agent says so. What runs nothing of the kind is quoted without one.
ALTER TABLE machines ADD COLUMN templates boolean NOT NULL DEFAULT false;
