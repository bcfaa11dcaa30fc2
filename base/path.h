// Where paths lie, told by what they lead to and not by how they are spelled: other spellings,
// links and mounts of one place are one place.
#pragma once

#include <stdbool.h>

// `inner` is `outer` or lies below it. What does not exist yet lies where it would be made.
bool path_is_within(const char *inner, const char *outer);
