/* version.h - the one place that says the version. */
#ifndef CRIER_VERSION_H
#define CRIER_VERSION_H
#define CRIER_VERSION "0.1.0"
#endif
