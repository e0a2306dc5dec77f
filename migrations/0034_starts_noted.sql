-- Offers show how many starts their machine's reliability is from: a change of that alone is one of its offers, too.
DROP TRIGGER machine_reliability_noted ON machine_reliability;
CREATE TRIGGER machine_reliability_noted AFTER UPDATE ON machine_reliability FOR EACH ROW
    WHEN (NEW.window_days = 30
          AND (OLD.score_bps, OLD.ready_p95_ms, OLD.starts) IS DISTINCT FROM
              (NEW.score_bps, NEW.ready_p95_ms, NEW.starts))
    EXECUTE FUNCTION note_machine();
