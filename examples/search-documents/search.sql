-- What search-documents.sh fills: the words of each file, under its id.

CREATE TABLE documents (
	file_id bigint PRIMARY KEY,
	words tsvector NOT NULL
);

CREATE INDEX documents_words_idx ON documents USING gin (words);

-- SELECT * FROM search_documents('holiday -work "north sea"');
CREATE FUNCTION search_documents(query text)
RETURNS TABLE (file_path text, rank real)
LANGUAGE sql STABLE AS $$
SELECT f.file_path, ts_rank(d.words, q)
FROM websearch_to_tsquery('simple', query) q
JOIN documents d ON d.words @@ q
JOIN file_records f ON f.id = d.file_id AND f.missing_since IS NULL
ORDER BY 2 DESC, 1
$$;
