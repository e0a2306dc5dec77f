-- Whether an offer was taken down less than a minute ago is asked whenever one is listed (`note_listings`, migration 0010): that
-- read every stretch of every offer.
CREATE INDEX machine_listings_by_offer ON machine_listings (offer_id, from_at);
