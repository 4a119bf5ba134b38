/* What names mean: document ids as file names and back, scratch names of tools, collection names.
 *
 *   document  = encoded ".json" ; at most 255 bytes
 *   encoded   = id with "%XX" (upper case) for: / % NUL, bytes below 0x20, 0x7f, and a leading '.'
 *   short     = "%~" first "~" hash ".json" ; when the encoded form is too long
 *   first     = as much of encoded as fits in 180 bytes, whole characters ; hash = 32 hex digits over the id
 */
#pragma once
#include "util/buf.h"

enum { PATH_NAME_MAX = 255 };

bool path_is_collection_name(const char *name);
/* A name that editors and copying tools write through before they rename it to the final one. */
bool path_is_scratch_name(const char *name);
/* The file name of a document. */
void path_doc_name(const char *id, size_t len, struct buf *out);
enum doc_name_kind { DOC_NAME_NONE, DOC_NAME_ID, DOC_NAME_SHORT };
/* The id a file name means; SHORT: only the beginning of the id (find it by path_doc_name). NONE: no
 * document's name. */
enum doc_name_kind path_doc_id(const char *name, struct buf *id);
