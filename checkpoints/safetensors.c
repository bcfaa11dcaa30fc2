#include "checkpoints/checkpoint.h"
