// The number type of tensors: float, or double in the f64 preset, where gradients are checked.
#pragma once

#ifdef STERNA_F64
typedef double real;
#define REAL_NAME "f64"
#else
typedef float real;
#define REAL_NAME "f32"
#endif
