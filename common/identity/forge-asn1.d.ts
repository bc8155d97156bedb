// Types of the one part of node-forge that is loaded: its DER reader and writer. The whole package would bring
// its pure-JavaScript ciphers into every proxy.
declare module 'node-forge/lib/asn1.js' {
  export interface Asn1 {
    readonly tagClass: number;
    readonly type: number;
    readonly constructed: boolean;
    readonly value: string | Asn1[];
  }
  interface ByteBuffer {
    getBytes(): string;
  }
  interface Asn1Module {
    readonly Class: Readonly<Record<'UNIVERSAL' | 'CONTEXT_SPECIFIC', number>>;
    readonly Type: Readonly<
      Record<
        | 'BOOLEAN'
        | 'INTEGER'
        | 'BITSTRING'
        | 'OCTETSTRING'
        | 'OID'
        | 'NULL'
        | 'UTF8'
        | 'SEQUENCE'
        | 'SET'
        | 'UTCTIME'
        | 'GENERALIZEDTIME',
        number
      >
    >;
    create(tagClass: number, type: number, constructed: boolean, value: string | Asn1[]): Asn1;
    fromDer(bytes: string, options: { strict: boolean; decodeBitStrings: boolean }): Asn1;
    toDer(element: Asn1): ByteBuffer;
    oidToDer(dotted: string): ByteBuffer;
    derToOid(bytes: string): string;
    dateToUtcTime(date: Date): string;
    dateToGeneralizedTime(date: Date): string;
  }
  const module: Asn1Module;
  export default module;
}
